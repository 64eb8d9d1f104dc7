"""What `genekb` does from the shell, as functions of the same names: ``import genekb as gk; gk.build(...)``.

Stores are taken by name, digest, path or address, or opened; files as text or :class:`pathlib.Path`. The function of a
command that asks about one store is a method of :class:`genekb.Store`: ``kb.search``, ``kb.resolve``, ``kb.sql``.
"""
