# the client stub
