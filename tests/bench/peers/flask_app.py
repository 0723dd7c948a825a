"""The usual solution: Flask with one global Instaloader, which downloads to ``MEDIA_ROOT``."""

import os
from pathlib import Path
from typing import Any

import instaloader
from flask import Flask, request

app = Flask(__name__)
root = Path(os.environ["MEDIA_ROOT"])
loader = instaloader.Instaloader(
    sleep=False, dirname_pattern=f"{root}/{{target}}", filename_pattern="{shortcode}"
)


@app.get("/health")
def health() -> str:
    return "OK"


@app.post("/scrape")
def scrape() -> dict[str, Any]:
    url = request.get_json(force=True)["url"]
    shortcode = url.rstrip("/").rpartition("/")[2]
    post = instaloader.Post.from_shortcode(loader.context, shortcode)
    loader.download_post(post, target=shortcode)
    return {
        "shortcode": shortcode,
        "video": str(root / shortcode / f"{shortcode}.mp4"),
        "description": post.caption or "",
        "cdn_url": post.video_url,
        "original_url": url,
    }
