"""The poller: drains the queue of asynchronous events, and tells destinations what came of them."""
