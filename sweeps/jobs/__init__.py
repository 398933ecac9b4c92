"""The files and settings that a job of a Ray cluster takes along."""
