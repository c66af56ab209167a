"""Commands that build banks and look into them."""
