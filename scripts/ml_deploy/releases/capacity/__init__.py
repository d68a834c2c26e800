"""Is there room for a release? What its pods ask for against what nodes and quotas have left."""
