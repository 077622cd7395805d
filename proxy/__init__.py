"""Sidegate: the guard in front of n8n and LLM webhooks. Start reading at flow.py."""

__version__ = "0.1.0"
