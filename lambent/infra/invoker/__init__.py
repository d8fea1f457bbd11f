"""The client path of every invocation: a lease from the scheduler, a frame to the worker. Frontend and poller use it.

`pool` decides (pure: `now` is a parameter, effects are values it leaves in `out`), `leases` carries out over gRPC,
`worker_links` sends frames, `invoker` joins them.
"""
