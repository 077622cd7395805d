"""Where clients connect. The only package that knows aiohttp's server side.

server     which path leads where             runner, http1   aiohttp's HTTP/1.1, made strict
read       what the wire says                 headers         what goes on every answer
chat       POST /v1/messages                  sse, events     answers as they come
websocket  GET /v1/ws                         problem         refusals over plain HTTP
session    tokens and tickets                 pages           the chat page
ops        the owner's listener               live            what is open, and how it ends
"""
