"""What every room shares: one error type, strict configuration, safe files, progress, report pages."""
