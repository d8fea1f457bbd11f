"""The two doors: AWS's REST API and gRPC, both from one dispatch table over protos/lambent/v1.

Wire formats end here. Operations take (request, call) and raise AwsError; nothing below this package knows HTTP or
gRPC.
"""
