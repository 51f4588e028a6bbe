"""Requests to a server at planned moments, and the greatest rate of them that it serves within a bound.

offering   an open loop: requests leave at moments that were drawn beforehand, whatever the server does
searching  the greatest rate at which the bound is kept, by verdicts with a stated confidence
results    rows, intervals and grades of what was found

Nothing here knows how a request reaches a server: that is a function which sends one and calls back.
"""
