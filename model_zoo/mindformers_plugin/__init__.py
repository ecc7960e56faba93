"""Both families as MindFormers' models, with its configuration files; nothing here is imported by the other rooms."""
