"""Photos, their palettes and the way from pixels to the arrays that the nets take."""
