"""What runs inside the sandbox, under whatever interpreter the function needs: standard library only."""
