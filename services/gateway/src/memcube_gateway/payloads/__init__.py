"""Payloads through the HTTP door: uploads as they arrive, downloads in ranges, links that need no credential."""
