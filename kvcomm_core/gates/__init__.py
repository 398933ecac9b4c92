"""Criteria that judge a whole turn: is the KV that was estimated for its prompt good enough to answer from?"""
