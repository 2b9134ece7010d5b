"""How a path, or an object in memory, becomes a `Dataset`; `formats` is the way in."""
