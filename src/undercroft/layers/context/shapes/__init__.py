"""Shapes: other people's messages, OpenAI's and Anthropic's, in and out again."""
