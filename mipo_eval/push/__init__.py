"""Out of the store: runs in the trackers and on the hub, by their own clients.

A client is imported only when something is sent by it. Nothing that looks like a secret is sent.
"""
