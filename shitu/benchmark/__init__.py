"""What recognition costs on this machine: by stage, engine, precision and threads, beside what the machine could do."""
