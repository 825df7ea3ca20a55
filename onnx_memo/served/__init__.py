"""How a bundle serves a request: what it reuses, what it runs and why, and what its answer differs by.

`trace` makes a guarded model give more than its answer; `explain` runs requests and says what that means;
`show` is for the terminal and `picture` for a file.
"""
