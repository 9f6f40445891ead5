"""Makes policy true in the kernel. Pure: compile, ruleset, render, plan. Edge: kernel."""
