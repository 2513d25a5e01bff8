package main

import "github.com/spf13/cobra"

func (a *app) wrap() *cobra.Command { return &cobra.Command{Use: "wrap"} }
