"""JSON Schema to GBNF: whatever the grammar lets through is JSON that the schema accepts."""

from mtpcli.schema.convert import schema_grammar

__all__ = ["schema_grammar"]
