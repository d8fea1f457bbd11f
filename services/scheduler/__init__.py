"""The scheduler: alone decides who may run where. Payloads never pass through it."""
