//! Cell, record, proof, ceiling, summary: the schema, as plain data.
