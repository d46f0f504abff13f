"""
ASGI applications, by uvicorn's protocols on adopted connections.
"""
