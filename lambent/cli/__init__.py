"""The `lambent` command. `main` knows the commands; each is a module that is imported when it is called."""
