"""Where programs run and are judged: sandbox, verdict, engines."""
