"""What procedural images show. A kind draws ``number`` images like those of a network's ``Description``, from a generator."""
