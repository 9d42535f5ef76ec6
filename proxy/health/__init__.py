"""How the server and pghold itself are: checks that run every minute, ways around the proxy, and what people are told of both.

Nothing here decides on a statement, and nothing that fails here keeps one from being decided.
"""
