"""Looking at CircleCI without a sync: `--check` says what token and config give access to, `--get` shows an answer."""
