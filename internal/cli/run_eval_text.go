package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/llama-pajamas/llama-pajamas/eval"
)

// printEval writes the tables of an evaluation.
func printEval(w io.Writer, r *eval.Report) error {
	fmt.Fprintf(w, "%s\n", evalHeadline(r))
	for _, table := range [][][]string{figuresTable(r), categoriesTable(r)} {
		if len(table) < 2 {
			continue
		}
		fmt.Fprintln(w)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, row := range table {
			fmt.Fprintln(tw, strings.Join(row, "\t"))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	notes := evalNotes(r)
	if len(notes) > 0 {
		fmt.Fprintln(w)
	}
	for _, n := range notes {
		if _, err := fmt.Fprintln(w, n); err != nil {
			return err
		}
	}
	return nil
}

func evalHeadline(r *eval.Report) string {
	s := r.Settings
	var parts []string
	if s.NumQuestions > 0 {
		parts = append(parts, fmt.Sprintf("%d questions", s.NumQuestions))
	}
	if len(s.Definitions) > 0 {
		of := "the whole text"
		if s.Tokens > 0 {
			of = fmt.Sprintf("up to %d tokens of the text", s.Tokens)
		}
		parts = append(parts, of+" ("+s.Text+")")
	}
	line := fmt.Sprintf("%s: %s", r.Model, strings.Join(parts, ", "))
	if r.Reference != "" {
		line += "\nagainst " + r.Reference
	}
	return line
}

// figuresTable is a row an artifact.
func figuresTable(r *eval.Report) [][]string {
	head := []string{"artifact", "size", "bits/weight"}
	for _, d := range r.Settings.Definitions {
		head = append(head, "ppl "+d)
	}
	against := r.Reference != ""
	if against && len(r.Settings.Definitions) > 0 {
		head = append(head, "ratio", "KL", "top-1", "top-5")
	}
	if r.Settings.NumQuestions > 0 {
		head = append(head, "right", "accuracy, 95 %")
		if against {
			head = append(head, "gained/lost", "p")
		}
	}
	out := [][]string{head}
	for i := range r.Artifacts {
		a := &r.Artifacts[i]
		if a.NotRun != "" {
			continue
		}
		row := []string{a.Path, humanBytes(a.Bytes), decimals(a.BitsPerWeight, 2)}
		for _, d := range r.Settings.Definitions {
			row = append(row, perplexityCell(a.Perplexity(d)))
		}
		if against && len(r.Settings.Definitions) > 0 {
			row = append(row, lossCells(a)...)
		}
		if r.Settings.NumQuestions > 0 {
			row = append(row, answerCells(a.Questions)...)
			if against {
				row = append(row, pairedCells(a)...)
			}
		}
		out = append(out, row)
	}
	return out
}

func perplexityCell(p *eval.Perplexity) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprintf("%.3f ± %.3f", p.Value, p.StdErr)
}

// lossCells are ratio, KL, top-1 and top-5.
func lossCells(a *eval.Artifact) []string {
	switch f := a.Fidelity; {
	case a.IsReference:
		return []string{"-", "reference", "-", "-"}
	case f == nil:
		return []string{"-", "-", "-", "-"}
	default:
		return []string{
			fmt.Sprintf("× %.4f ± %.4f", f.PerplexityRatio, f.PerplexityRatioStdErr),
			fmt.Sprintf("%.4f ± %.4f", f.KLMean, f.KLStdErr),
			fmt.Sprintf("%.1f ± %.1f %%", 100*f.Top1, 100*f.Top1StdErr),
			fmt.Sprintf("%.1f ± %.1f %%", 100*f.Top5, 100*f.Top5StdErr),
		}
	}
}

func answerCells(q *eval.Questions) []string {
	if q == nil || q.Total.Total == 0 {
		return []string{"-", "-"}
	}
	t := q.Total
	return []string{fmt.Sprintf("%d/%d", t.Right, t.Total), fmt.Sprintf("%.0f %% (%.0f to %.0f)", 100*t.Accuracy, 100*t.Low, 100*t.High)}
}

func pairedCells(a *eval.Artifact) []string {
	if a.Questions == nil || a.Questions.Paired == nil {
		return []string{"-", "-"}
	}
	p := a.Questions.Paired
	return []string{fmt.Sprintf("+%d −%d", p.Gained, p.Lost), fmt.Sprintf("%.2f", p.P)}
}

// categoriesTable is a row an artifact, a column a category.
func categoriesTable(r *eval.Report) [][]string {
	var names []string
	chance := map[string]float64{}
	for _, a := range r.Artifacts {
		if a.Questions != nil && len(a.Questions.Categories) > len(names) {
			names = nil
			for _, c := range a.Questions.Categories {
				names = append(names, c.Category)
				chance[c.Category] = c.Chance
			}
		}
	}
	out := [][]string{append([]string{"right answers"}, names...)}
	for i := range r.Artifacts {
		a := &r.Artifacts[i]
		if a.Questions == nil {
			continue
		}
		row := []string{a.Path}
		for _, n := range names {
			row = append(row, categoryCell(a.Questions, n))
		}
		out = append(out, row)
	}
	if len(out) > 1 {
		row := []string{"by guessing"}
		for _, n := range names {
			row = append(row, fmt.Sprintf("%.0f %%", 100*chance[n]))
		}
		out = append(out, row)
	}
	return out
}

// categoryCell is right of total; of programs that were not run the mean
// log-likelihood of a byte of the right ones.
func categoryCell(q *eval.Questions, category string) string {
	s := q.Score(category)
	switch {
	case s == nil:
		return "-"
	case s.Total > 0:
		return fmt.Sprintf("%d/%d", s.Right, s.Total)
	}
	sum, n := 0.0, 0
	for _, rec := range q.Records {
		if rec.Category == category && !rec.Scored && rec.Error == "" {
			sum += rec.Score
			n++
		}
	}
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f*", sum/float64(n))
}

// evalNotes are what must be known to read the tables.
func evalNotes(r *eval.Report) []string {
	var notes []string
	unscored, templates := false, 0
	asked := 0
	said := map[string][]string{}
	var order []string
	say := func(what, path string) {
		if said[what] == nil {
			order = append(order, what)
		}
		said[what] = append(said[what], path)
	}
	for _, a := range r.Artifacts {
		if a.NotRun != "" {
			say("not run: %s: "+a.NotRun, a.Path)
		}
		if a.QuestionsNotRun != "" {
			say("questions not asked: %s: "+a.QuestionsNotRun, a.Path)
		}
		if len(a.Perplexities) > 0 && a.Perplexities[0].Arithmetic != "" {
			say("perplexity computed by "+a.Perplexities[0].Arithmetic+": %s", a.Path)
		}
		for _, p := range a.Problems {
			notes = append(notes, a.Path+": "+p)
		}
		if q := a.Questions; q != nil {
			asked++
			unscored = unscored || q.Total.Unscored > 0
			if q.ChatTemplate {
				templates++
			}
			errors := 0
			for _, rec := range q.Records {
				if rec.Error != "" {
					errors++
				}
			}
			if errors > 0 {
				say(fmt.Sprintf("%d questions could not be asked and count as wrong", errors)+": %s", a.Path)
			}
		}
	}
	for _, what := range order {
		notes = append(notes, fmt.Sprintf(strings.ReplaceAll(strings.ReplaceAll(what, "%", "%%"), "%%s", "%s"), strings.Join(said[what], ", ")))
	}
	if unscored {
		notes = append(notes, "* programs were not run: mean log-likelihood of a byte of the right one, in nats, which counts towards no accuracy; --allow-code-execution runs them")
	}
	if asked > 0 {
		note := fmt.Sprintf("%d questions bound an accuracy to ± %.0f %% at best: they show large losses only, perplexity and KL show small ones", r.Settings.NumQuestions, 100*halfWidth(r.Settings.NumQuestions))
		notes = append(notes, note)
		if templates > 0 {
			notes = append(notes, "instructions were put through the chat template; all other prompts are plain text, as lm-evaluation-harness has them")
		}
		if r.Settings.MaxTokens > 0 {
			notes = append(notes, fmt.Sprintf("written answers have %d tokens at most", r.Settings.MaxTokens))
		}
	}
	return append(notes, r.Notes...)
}

// halfWidth is half of the widest interval of so many answers.
func halfWidth(n int) float64 {
	low, high := eval.Wilson(n/2, n)
	return (high - low) / 2
}
