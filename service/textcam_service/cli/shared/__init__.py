"""Options, connections and output that commands share."""
