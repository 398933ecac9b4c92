"""One token per row through the layers that we recognise, with fewer and faster products than transformers makes."""
