"""What schemathesis does not know by itself."""

import schemathesis


@schemathesis.deserializer("application/octet-stream")
def update(ctx, response):
    """An update of Yjs is bytes, which the description has as text."""
    return response.content.decode("latin-1")
