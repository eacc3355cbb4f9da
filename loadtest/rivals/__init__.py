"""Other ways to serve the same two models, each in an environment of its own by its own lock.

What these modules import beside ``sentinel`` is not among this project's dependencies: only the
processes that ``sentinel bench`` starts import them.
"""
