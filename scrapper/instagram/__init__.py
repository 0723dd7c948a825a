"""Everything specific to Instagram or Instaloader. The code is blocking, and uses no asyncio."""
