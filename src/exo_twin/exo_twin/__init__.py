"""The wearer's neuro-musculoskeletal twin: inverse, forward, live."""
