"""Points: encoding them, getting them from a worker to InfluxDB, and storing them where there is no InfluxDB.

==============  ==========================================================================
``line``        ``results.write``: line protocol from user code, in any interpreter
``parse``       line protocol read, as strictly as by InfluxDB
``writer``      the worker's side: every submission acknowledged, spooled or rejected
``series``      points of one series too many of their ensemble, left out
``drain``       the spool on its way to the database, in the background
``spool``       what the database has not taken yet, on disk
``database``    influxdb-client, every answer told apart
``batch``       how much goes into one write, and which lines no database will take
``app``         the local stack's write endpoint; ``body`` and ``refusals`` are parts of it
``store``       its database, in SQLite; ``fieldtypes`` knows the type of each field
==============  ==========================================================================
"""
