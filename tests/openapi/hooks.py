"""What schemathesis does not know by itself."""

import json

import schemathesis


@schemathesis.deserializer("application/octet-stream")
def update(ctx, response):
    """An update of Yjs is bytes, which the description has as text."""
    return response.content.decode("latin-1")


@schemathesis.deserializer("application/x-ndjson")
def lines(ctx, response):
    """JSON line by line, which the description has as a list."""
    return [json.loads(line) for line in response.content.splitlines()]
