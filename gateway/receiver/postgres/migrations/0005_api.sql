-- A reader must see of which version the tables are.
GRANT SELECT ON migrations TO iomt_reader;
