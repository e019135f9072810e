"""EgoMAN (arXiv 2512.16907): a vision-language model reasons about an interaction, a motion expert moves the wrists."""
