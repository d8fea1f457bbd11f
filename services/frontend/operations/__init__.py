"""What the frontend does: one class for each service of protos/lambent/v1, one coroutine for each RPC.

Operations take (request, call) and raise AwsError. They never see a wire format.
"""
