"""Vision-language models that read images and words, and are asked what they think: any chat model of transformers.

Systems that reason before they move are in their own folders; nothing here knows of hands.
"""
