"""The catalogue: Postgres is the truth, and every SQL statement of Headrace stands here.

Each function takes a transaction first (``with database.begin() as tx``), so that a
caller can put several changes into one commit. They return frozen values; rows stay here.

``items.set_state`` alone writes an item's state; it appends the event in the same
transaction. Whoever works under a lease passes its ``Fence``, which every commit checks.
"""
