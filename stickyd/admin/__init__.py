"""
What an operator's browser, a monitoring system and a balancer ask of the primary, over HTTP.
"""
