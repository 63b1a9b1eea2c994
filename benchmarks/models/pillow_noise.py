"""Noise that Pillow draws with the C library's ``rand()``, as older models in C do."""

import hashlib

from PIL import Image


def work(params):
    noise = Image.effect_noise((32, 32), 40 + params["n"])
    noise.save("noise.png")
    with Image.open("noise.png") as image:
        return {"sha": hashlib.sha256(image.tobytes()).hexdigest()[:12], "corner": image.getpixel((0, 0))}
