"""Everything that knows Instagram or Instaloader; blocking, without asyncio."""
