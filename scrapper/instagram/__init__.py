"""Everything that knows Instagram or Instaloader; blocking code, without asyncio."""
