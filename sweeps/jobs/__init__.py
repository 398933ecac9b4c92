"""What a job of a Ray cluster takes along besides this code and its sweep."""
