package eval

import "math"

// z95 is the 97.5 % quantile of the normal distribution.
const z95 = 1.959963984540054

// Wilson is the 95 % interval of a share of right out of total answers:
//
//	(p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n)
//
// Source: Wilson, JASA 22 (1927). It keeps within 0 and 1 and has a width where
// all answers are right or none is.
func Wilson(right, total int) (low, high float64) {
	if total <= 0 {
		return 0, 1
	}
	n := float64(total)
	p := float64(right) / n
	z2 := z95 * z95
	middle := (p + z2/(2*n)) / (1 + z2/n)
	half := z95 * math.Sqrt(p*(1-p)/n+z2/(4*n*n)) / (1 + z2/n)
	low, high = max(0, middle-half), min(1, middle+half)
	// Rounding must not take what the formula gives exactly.
	if right == 0 {
		low = 0
	}
	if right == total {
		high = 1
	}
	return low, high
}

// McNemar is the exact two-sided p-value of McNemar's test: of the gained+lost
// questions that only one of two models answers right, either is as likely to be
// the one, if both are equally good. With n = gained+lost and k the smaller,
//
//	p = min(1, 2·Σ_{i≤k} C(n,i) / 2ⁿ)
//
// Source: McNemar, Psychometrika 12 (1947), with the binomial distribution in
// place of its limit.
func McNemar(gained, lost int) float64 {
	n, k := gained+lost, min(gained, lost)
	if n == 0 {
		return 1
	}
	ln := func(i int) float64 {
		v, _ := math.Lgamma(float64(i) + 1)
		return v
	}
	sum := 0.0
	for i := range k + 1 {
		sum += math.Exp(ln(n) - ln(i) - ln(n-i) - float64(n)*math.Ln2)
	}
	return min(1, 2*sum)
}

// pairedInterval is the 95 % interval of the difference of two accuracies on the
// same total questions: with 1/2 added to each of the four counts,
//
//	d ± z·√(b + c − (b−c)²/n) / n,  d = (b−c)/n,
//
// n = total+2, b = gained+1/2, c = lost+1/2. Source: Agresti and Min, Statistics
// in Medicine 24 (2005), "Wald+2".
func pairedInterval(gained, lost, total int) (low, high float64) {
	if total <= 0 {
		return -1, 1
	}
	n, b, c := float64(total)+2, float64(gained)+0.5, float64(lost)+0.5
	d := (b - c) / n
	half := z95 * math.Sqrt(b+c-(b-c)*(b-c)/n) / n
	return max(-1, d-half), min(1, d+half)
}

// count makes a score of records.
func count(category string, records []Record) Score {
	s := Score{Category: category}
	chance := 0.0
	for _, r := range records {
		if category != "" && r.Category != category {
			continue
		}
		if !r.Scored {
			s.Unscored++
			continue
		}
		s.Total++
		chance += r.Chance
		if r.Right {
			s.Right++
		}
	}
	if s.Total > 0 {
		s.Accuracy = float64(s.Right) / float64(s.Total)
		s.Chance = chance / float64(s.Total)
	}
	s.Low, s.High = Wilson(s.Right, s.Total)
	return s
}

// Pair compares an artifact's answers with a reference's, question by question;
// nil where they have none in common.
func Pair(reference string, got, ref []Record) *Paired {
	right := map[string]bool{}
	for _, r := range ref {
		if r.Scored {
			right[r.ID] = r.Right
		}
	}
	p := &Paired{Reference: reference}
	for _, r := range got {
		was, ok := right[r.ID]
		if !ok || !r.Scored {
			continue
		}
		p.Questions++
		switch {
		case r.Right && !was:
			p.Gained++
		case was && !r.Right:
			p.Lost++
		}
	}
	if p.Questions == 0 {
		return nil
	}
	p.Difference = float64(p.Gained-p.Lost) / float64(p.Questions)
	p.Low, p.High = pairedInterval(p.Gained, p.Lost, p.Questions)
	p.P = McNemar(p.Gained, p.Lost)
	return p
}
