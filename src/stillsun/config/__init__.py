"""The typed configuration: schema, checks and Hydra's composition."""
