module github.com/llama-pajamas/llama-pajamas/ort/_generate

go 1.26.0
