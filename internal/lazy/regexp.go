// Package lazy keeps the start of the program short: every unit of every
// instance starts it, and most commands need few of its rules.
package lazy

import (
	"regexp"
	"sync"
)

// Regexp is a regular expression that is compiled when it is first used. Its
// methods are those of regexp.Regexp.
type Regexp struct {
	text    string
	compile func() *regexp.Regexp
}

var all []*Regexp

// MustCompile is for package variables. A text that is no regular expression
// panics at its first use; the test of package main compiles all.
func MustCompile(text string) *Regexp {
	r := &Regexp{text, sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}
	all = append(all, r)
	return r
}

// All are the expressions of the program.
func All() []*Regexp { return all }

// String is the text of the expression.
func (r *Regexp) String() string { return r.text }

func (r *Regexp) MatchString(s string) bool            { return r.compile().MatchString(s) }
func (r *Regexp) FindStringSubmatch(s string) []string { return r.compile().FindStringSubmatch(s) }
func (r *Regexp) ReplaceAllString(s, with string) string {
	return r.compile().ReplaceAllString(s, with)
}
func (r *Regexp) FindAllStringSubmatch(s string, n int) [][]string {
	return r.compile().FindAllStringSubmatch(s, n)
}
func (r *Regexp) ReplaceAllStringFunc(s string, with func(string) string) string {
	return r.compile().ReplaceAllStringFunc(s, with)
}
